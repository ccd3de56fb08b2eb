//! The macros that write a query once and compile it for each engine.

/// Runs a query that changes nothing. The body takes what it needs by value and sees the connection under the name that is
/// given, and its value is a `Result<_, sqlx::Error>`. It awaits nothing but the connection.
#[macro_export]
macro_rules! db_read {
    ($db:expr, |$connection:ident| $body:expr) => {
        $crate::db_read!($crate::db::sqlite::Extent::Rows, $db, |$connection| $body)
    };
    ($extent:expr, $db:expr, |$connection:ident| $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite(db) => db.read($extent, move |$connection| Box::pin(async move { $body })).await,
            $crate::db::Db::Postgres(db) => match db.connection().await {
                Ok(mut held) => {
                    let outcome = {
                        let $connection = held.connection();
                        $crate::db::within(db.limit(), async move { $body }).await
                    };
                    held.give_back(outcome)
                }
                Err(error) => Err(error),
            },
        }
    };
}

/// As [`db_read!`](crate::db_read), of one row that is found by its key.
#[macro_export]
macro_rules! db_look_up {
    ($db:expr, |$connection:ident| $body:expr) => {
        $crate::db_read!($crate::db::sqlite::Extent::Row, $db, |$connection| $body)
    };
}

/// Runs one statement that writes. The body is as for [`db_read!`](crate::db_read).
///
/// On `SQLite` it shares a commit with the writes that wait beside it, and this returns after that commit.
#[macro_export]
macro_rules! db_write {
    ($db:expr, |$connection:ident| $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite(db) => {
                db.write($crate::db::sqlite::Shape::Statement, move |$connection| Box::pin(async move { $body })).await
            }
            $crate::db::Db::Postgres(db) => match db.connection().await {
                Ok(mut held) => {
                    let outcome = {
                        let $connection = held.connection();
                        $crate::db::within(db.limit(), async move { $body }).await
                    };
                    held.give_back(outcome)
                }
                Err(error) => Err(error),
            },
        }
    };
}

/// Runs several statements of which all take effect or none: none if the body's value is an error. Otherwise as
/// [`db_write!`](crate::db_write).
#[macro_export]
macro_rules! db_transaction {
    ($db:expr, |$connection:ident| $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite(db) => {
                db.write($crate::db::sqlite::Shape::Several, move |$connection| Box::pin(async move { $body })).await
            }
            $crate::db::Db::Postgres(db) => match db.connection().await {
                Ok(mut held) => {
                    let outcome = $crate::db::within(db.limit(), async {
                        let mut transaction = ::sqlx::Connection::begin(held.connection()).await?;
                        let value: Result<_, ::sqlx::Error> = {
                            let $connection = &mut *transaction;
                            async move { $body }.await
                        };
                        let value = value?;
                        transaction.commit().await?;
                        Ok(value)
                    })
                    .await;
                    held.give_back(outcome)
                }
                Err(error) => Err(error),
            },
        }
    };
}

/// Runs several statements that may be given up: the body's value is a `Result<Result<_, E>, sqlx::Error>`, and where the
/// inner one is an error, nothing takes effect and it is answered. Otherwise as [`db_transaction!`](crate::db_transaction).
#[macro_export]
macro_rules! db_attempt {
    ($db:expr, |$connection:ident| $body:expr) => {
        match $db {
            $crate::db::Db::Sqlite(db) => db.attempt(move |$connection| Box::pin(async move { $body })).await,
            $crate::db::Db::Postgres(db) => match db.connection().await {
                Ok(mut held) => {
                    let outcome = $crate::db::within(db.limit(), async {
                        let mut transaction = ::sqlx::Connection::begin(held.connection()).await?;
                        let value: Result<Result<_, _>, ::sqlx::Error> = {
                            let $connection = &mut *transaction;
                            async move { $body }.await
                        };
                        let value = value?;
                        match &value {
                            Ok(_) => transaction.commit().await?,
                            Err(_) => transaction.rollback().await?,
                        }
                        Ok(value)
                    })
                    .await;
                    held.give_back(outcome)
                }
                Err(error) => Err(error),
            },
        }
    };
}
